"""Links a program of a finished build anew with one file changed, and changes neither the sources nor the build.

A copy of src/ with the changed file stands in a scratch folder. What includes or is the file is compiled from there, as the
build compiles it but unoptimised, and linked in the place of the objects that the program has. The build has to be Ninja's,
which knows the commands and the dependencies. Objects of nvcc stay as they are: no test here runs them.
"""
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess


class CannotBuild(Exception):
    pass


def run(command, folder, prefix=()):
    words = ["sh", "-c", command] if isinstance(command, str) else command
    return subprocess.run([*prefix, *words], cwd=folder, stdin=subprocess.DEVNULL, text=True, errors="replace",
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)


class FinishedBuild:
    def __init__(self, source, build, scratch, prefix=()):
        self.source, self.build, self.scratch, self.prefix = source, build, scratch, prefix
        self.copy = scratch / "src"
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.copytree(source / "src", self.copy)
        self.compile_commands = {}  # by object
        for entry in json.loads((build / "compile_commands.json").read_text()):
            words = shlex.split(entry["command"])
            if not words[0].endswith("nvcc"):
                self.compile_commands[words[words.index("-o") + 1]] = words
        self.includes = self._includes()
        self.links = {}
        self.current, self.compiled, self.linked = None, {}, {}

    def _includes(self):
        """Which objects each file below src/ goes into."""
        found, name = {}, None
        for line in run(["ninja", "-t", "deps"], self.build).stdout.splitlines():
            if not line.startswith(" "):
                name = line.split(": #deps")[0]
            elif name in self.compile_commands and "src/" in line:
                path = os.path.normpath(self.build / line.strip())
                if path.startswith(f"{self.source}/src/"):
                    found.setdefault(os.path.relpath(path, self.source), set()).add(name)
        return found

    def _link(self, program):
        if program not in self.links:
            listed = run(["ninja", "-t", "commands", program], self.build)
            if listed.returncode != 0:
                raise CannotBuild(f"the build has no {program}:\n{listed.stdout}")
            self.links[program] = listed.stdout.strip().splitlines()[-1]
        return self.links[program]

    def objects_of(self, program, file):
        """(object, what stands for it in the command that links the program: itself, or its archive). Where several
        objects of a source are linked, the first is the program's: those in later archives are not taken."""
        linked, found = re.split(r"\s+", self._link(program)), {}
        for name in self.includes.get(file, ()):
            folder, target = re.match(r"(.*)CMakeFiles/([\w.-]+)\.dir/", name).groups()
            words = self.compile_commands[name]
            places = [linked.index(stands) for stands in (name, f"{folder}lib{target}.a") if stands in linked]
            if places:
                known = found.setdefault(words[words.index("-c") + 1], (places[0], name))
                found[words[words.index("-c") + 1]] = min(known, (places[0], name))
        return [(name, linked[place]) for place, name in sorted(found.values())]

    def with_file(self, file, text, programs):
        """The programs linked with `text` in the file's place: a path by name, of those that it goes into."""
        if self.current != (file, text):
            self.current, self.compiled, self.linked = (file, text), {}, {}
        place = self.scratch / file
        place.write_text(text)
        try:
            for program in set(programs) - set(self.linked):
                replacements = self.objects_of(program, file)
                for name, _ in replacements:
                    if name not in self.compiled:
                        self.compiled[name] = self._compile(name, len(self.compiled))
                if replacements:
                    pairs = [(self.compiled[name], stands) for name, stands in replacements]
                    self.linked[program] = self._relink(program, pairs)
            return {program: self.linked[program] for program in programs if program in self.linked}
        finally:
            place.write_text((self.source / file).read_text())

    def _compile(self, name, number):
        words = [word.replace(f"{self.source}/src", str(self.copy)) for word in self.compile_commands[name]]
        own = self.scratch / f"{number}.o"
        words[words.index("-o") + 1] = str(own)
        done = run([*words, "-O0"], self.build, self.prefix)
        if done.returncode != 0:
            raise CannotBuild(done.stdout[-3000:])
        return own

    def _relink(self, program, replacements):
        command = self._link(program)
        for own, stands in replacements:
            # An object comes before the archive, whose own is not taken then.
            new = f" {own} " if stands.endswith(".o") else f" {own} {stands} "
            command = command.replace(f" {stands} ", new, 1)
        place = self.scratch / program
        command = re.sub(rf"-o \S*\b{re.escape(program)} ", f"-o {place} ", command, count=1)
        if f"-o {place} " not in command:
            raise CannotBuild(f"the command that links {program} is not understood:\n{command}")
        done = run(command, self.build, self.prefix)
        if done.returncode != 0:
            raise CannotBuild(done.stdout[-3000:])
        return place


def resolved(text):
    return pathlib.Path(text).resolve()
