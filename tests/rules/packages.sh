#!/usr/bin/env bash
# jobs/lib/packages.txt is the one list of packages: environment.yml and the lines of jobs/README.md are made from it, the images'
# definitions of jobs/site/ install by it and name no package; and a name that a release lacks is a skip, not an end.
# usage: packages.sh SOURCE_DIR [--fix]
set -euo pipefail
root=$1
# shellcheck source=../../jobs/lib/setup.sh
source "$root/jobs/lib/setup.sh"
failed=0
report() { # STATUS "what holds"
    if (($1 == 0)); then echo "ok      $2"; else
        echo "FAILED  $2"
        failed=1
    fi
}

# ---- what is made from the list

names_of() { packages_for "$@" | cut -d' ' -f1; } # as they stand in the list

environment() {
    cat <<'END'
# Made from jobs/lib/packages.txt by tests/rules/packages.sh . --fix. For machines without apt:
#   conda env create -f environment.yml && conda activate deeplab-hpc
# Not tried: Debian's packages are what the tests run with.
name: deeplab-hpc
channels:
  - conda-forge
dependencies:
END
    names_of conda build test | sed 's/^/  - /'
}

line_of() { # MANAGER "COMMAND": of what the build needs
    echo "$2 $(names_of "$1" build | paste -sd' ')"
}

# The lines of README between the marks.
lines() {
    echo '```sh'
    line_of apt "apt-get install --no-install-recommends"
    line_of dnf "dnf install"
    echo "conda env create -f environment.yml   # the tests' packages too"
    echo '```'
}

page=$root/jobs/README.md
between() { sed -n '/^<!-- packages: .*-->$/,/^<!-- \/packages -->$/p' "$page" | sed '1d;$d'; }

if [[ ${2:-} == --fix ]]; then
    environment >"$root/environment.yml"
    made=$(lines)
    awk -v made="$made" '
        /^<!-- \/packages -->$/ { inside = 0 }
        !inside { print }
        /^<!-- packages: .*-->$/ { inside = 1; print made }' "$page" >"$page.new"
    cat "$page.new" >"$page"
    rm "$page.new"
fi
repair="to repair: tests/rules/packages.sh . --fix"
status=0
diff <(environment) "$root/environment.yml" || status=1
report $status "environment.yml has conda's names ($repair)"
status=0
diff <(lines) <(between) || status=1
report $status "jobs/README.md has the lines of apt and dnf ($repair)"

for image in Dockerfile deeplab.def; do
    status=0
    grep -q 'jobs/lib/setup.sh; install_packages build' "$root/jobs/site/$image" || status=1
    ! grep -nE '(apt-get|apt|dnf|pip3?|conda) .*install' "$root/jobs/site/$image" || status=1
    report $status "$image installs what the list has for the build, and names no package itself"
done
# The sources that an image is built from exist, and are the same for both.
files_of_def() { sed -n '/^%files$/,/^$/p' "$root/jobs/site/deeplab.def" | awk 'NF == 2 { print $1 }' | sort; }
files_of_dockerfile() { sed -nE 's/^COPY (.*) [^ ]+$/\1/p' "$root/jobs/site/Dockerfile" | tr ' ' '\n' | grep -v '^--' | sort; }
status=0
diff <(files_of_def) <(files_of_dockerfile) || status=1
while read -r file; do [[ -e $root/$file ]] || { echo "not there: $file"; status=1; }; done < <(files_of_def)
report $status "both images are made from the same files, and they are there"

# ---- a release that lacks a package, by an apt that lacks what LACKS names and writes down what it is to install

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/bin"
cat >"$work/bin/apt-get" <<'END'
#!/usr/bin/env bash
case " $* " in
    *" update "*) ;;
    *" -s "*) for last; do :; done; [[ " $LACKS " != *" $last "* ]] ;;
    *" install "*)
        for name; do [[ " $LACKS " != *" $name "* ]] || { echo "E: Unable to locate package $name"; exit 100; }; done
        echo "$*" >>"$INSTALLED"
        ;;
esac
END
cat >"$work/bin/apt-cache" <<'END'
#!/usr/bin/env bash
for last; do :; done
[[ " $LACKS " != *" $last "* ]]
END
cat >"$work/bin/dpkg-query" <<'END'
#!/usr/bin/env bash
exit 1 # nothing is installed
END
cat >"$work/bin/sudo" <<'END'
#!/usr/bin/env bash
exec "$@"
END
chmod +x "$work"/bin/*

cat >"$work/install" <<'END'
root=$1
shift
source "$root/jobs/lib/setup.sh"
install_packages "$@"
printf 'lacking %s\n' "${lacking[@]}"
END

# install CHECKOUT "LACKS" KIND…: install_packages there; its output in $work/log, what apt was to install in $work/installed.
install() {
    local checkout=$1 lacks=$2
    shift 2
    : >"$work/installed"
    env -u DEEPLAB_NO_INSTALL PATH="$work/bin:$PATH" LACKS="$lacks" INSTALLED="$work/installed" \
        bash -eu "$work/install" "$checkout" "$@" >"$work/log" 2>&1
}

status=0
install "$root" "clang-format-14 clang-tidy-14" build test check || status=1
grep -q ' g++ .* python3-torch$' "$work/installed" || status=1
! grep -q 'clang-format-14' "$work/installed" || status=1
grep -q 'this release has no clang-format-14 — left out: the rule on format' "$work/log" || status=1
grep -q '^lacking clang-tidy-14: tests/run.sh --tidy$' "$work/log" || status=1
((status == 0)) || cat "$work/log" "$work/installed"
report $status "what a release lacks of the tests' packages is said, the others are installed"

# Nobody has this header: a name that no release has stands in for a library of the build.
mkdir -p "$work/other/jobs/lib"
cp "$root"/jobs/lib/*.sh "$work/other/jobs/lib/"
sed 's/^build .*tomlplusplus.*/build libnowhere-dev - - nowhere.h/' "$root/jobs/lib/packages.txt" >"$work/other/jobs/lib/packages.txt"
status=0
code=0
install "$work/other" "libnowhere-dev" build || code=$?
((code == 2)) && grep -q 'this release has no package libnowhere-dev, and nowhere.h is not there' "$work/log" &&
    [[ ! -s $work/installed ]] || status=1
((status == 0)) || { echo "ended with $code"; cat "$work/log"; }
report $status "what a release lacks of the build's packages ends with 2 and is named"

while read -r kind _ _ _ proof without; do
    [[ -n $kind && $kind != \#* ]] || continue
    status=0
    [[ -n $proof ]] && { [[ $kind == build && -z $without ]] || [[ $kind =~ ^(test|check)$ && -n $without ]]; } || status=1
    ((status == 0)) || report 1 "packages.txt: $kind … $proof says what is left out without it, unless it is of the build"
done <"$root/jobs/lib/packages.txt"
exit "$failed"
