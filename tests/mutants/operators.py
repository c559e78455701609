"""Single changes of C++ text, as mistakes that a hand makes: each operator knows where it can be applied.

A site is a place of one file with what stands there and what the operator puts there. Comments, literal texts, the
preprocessor's lines, and what only makes up a message are left alone. Sites are found by the text alone, always in the same
order, so that a seed draws the same ones.
"""
import dataclasses
import re


@dataclasses.dataclass(frozen=True)
class Site:
    operator: str
    file: str
    begin: int
    end: int
    new: str

    def applied(self, text):
        return text[: self.begin] + self.new + text[self.end :]

    def line(self, text):
        return text.count("\n", 0, self.begin) + 1


# --- What is code

_NOT_CODE = re.compile(
    r'//[^\n]*|/\*.*?\*/|R"\(.*?\)"|"(?:\\.|[^"\\\n])*"|(?<![0-9a-fA-F])\'(?:\\.|[^\'\\\n])\'|^[ \t]*\#(?:\\\n|[^\n])*',
    re.DOTALL | re.MULTILINE,
)
_MESSAGE = re.compile(r"\bthrow\s+\w*Error\(|\blog::\w+\(|\bstatic_assert\(|\bcat\(|__launch_bounds__\(|\basm\b")


def _blank(match):
    return re.sub(r"[^\n]", " ", match.group())


def code_of(text):
    """The text with blanks for comments, texts and the preprocessor's lines: places stay."""
    return _NOT_CODE.sub(_blank, text)


def closing(code, opening):
    """The place behind the bracket that closes the one at `opening`."""
    depth = 0
    for at in range(opening, len(code)):
        depth += (code[at] in "([{") - (code[at] in ")]}")
        if depth == 0:
            return at + 1
    return len(code)


def without_messages(code):
    """Also blanks for what only makes up a message."""
    for match in _MESSAGE.finditer(code):
        end = closing(code, match.end() - 1) if match.group().endswith("(") else code.find(";", match.end())
        code = code[: match.start()] + re.sub(r"[^\n]", " ", code[match.start() : end]) + code[end:]
    return code


def begins_statement(code, at):
    before = code[:at].rstrip()
    return before.endswith((";", "{", "}", ")", "else")) or re.search(r"\bcase [\w:]+:$", before) is not None


def statement_end(code, at):
    """Behind the semicolon of the statement that begins here; None where it is none."""
    depth = 0
    for place in range(at, len(code)):
        depth += (code[place] in "([{") - (code[place] in ")]}")
        if depth < 0:
            return None
        if depth == 0 and code[place] == ";":
            return place + 1
    return None


# --- Kinds of changes: generators of (begin, end, new)


def dropped(pattern):
    """The whole statement that begins so goes."""
    compiled = re.compile(pattern)

    def find(code):
        for match in compiled.finditer(code):
            end = statement_end(code, match.start())
            if end is not None and begins_statement(code, match.start()):
                yield match.start(), end, "{}"

    return find


def replaced(*pairs):
    compiled = [(re.compile(pattern), new) for pattern, new in pairs]

    def find(code):
        for pattern, new in compiled:
            for match in pattern.finditer(code):
                yield match.start(), match.end(), match.expand(new) if isinstance(new, str) else new(match)

    return find


def swapped(*pairs):
    """Each of a pair of names for the other."""
    both = [(rf"(?<!\w){re.escape(a)}(?![\w(])", b) for one, two in pairs for a, b in ((one, two), (two, one))]
    found = replaced(*both)

    def likely(code, begin, end, new):  # what is used, not what is declared, and a name that stands near
        near = code[max(begin - 1500, 0) : begin] + code[end : end + 1500]
        declared = re.search(r"(?<!return)[\w>&*] $", code[:begin])
        return re.search(rf"(?<!\w){re.escape(new)}(?![\w(])", near) and not declared

    return lambda code: (change for change in found(code) if likely(code, *change))


def together(*finders):
    def find(code):
        for finder in finders:
            yield from finder(code)

    return find


def unguarded(what):
    """An if of one statement that leaves goes."""
    head = re.compile(r"\bif \(")

    def find(code):
        for match in head.finditer(code):
            behind = closing(code, match.end() - 1)
            body = re.compile(r"\s*\{?\s*(" + what + r")").match(code, behind)
            if body is None or not begins_statement(code, match.start()):
                continue
            opened = code[behind : body.start(1)].strip() == "{"
            end = statement_end(code, body.start(1))
            if end is None or code[end:].lstrip().startswith("else"):
                continue
            if opened:
                if not code[end:].lstrip().startswith("}"):
                    continue
                end = code.index("}", end) + 1
            yield match.start(), end, "{}"

    return find


def unchecked(code):
    """A status that is looked at no more: check(call, what) becomes the call."""
    for match in re.finditer(r"(?<![\w.>])(?:cuda::)?(?:check|check_mpi)\(", code):
        if not begins_statement(code, match.start()):
            continue
        behind, depth, comma = closing(code, match.end() - 1), 0, None
        for at in range(match.end(), behind - 1):
            depth += (code[at] in "([{") - (code[at] in ")]}")
            if depth == 0 and code[at] == ",":
                comma = at
                break
        if comma is not None and "(" in code[match.end() : comma]:
            yield match.start(), behind, ("static_cast<void>(", match.end(), comma, ")")


_CALLER = r"(?:\w+(?:\(\))?(?:\.|->))*"
_SIDES = r"(?<=[\w)\]]) "  # before a comparison or an operation: clang-format sets blanks around it

OPERATORS = {
    "dropped wait": together(
        dropped(_CALLER + r"(?:wait|synchronize|settle|finish)\("),
        dropped(r"(?:(?:cuda::)?check\()?cuda(?:Stream|Event)Synchronize\("),
        dropped(r"__(?:syncthreads|syncwarp|threadfence)\("),
        dropped(r"check\(MPI_(?:Waitall|Barrier)\("),
    ),
    "swapped stream": replaced(
        (r"\bmodel_->stream\b", "model_->copies"),
        (r"\b(?:model_->copies|channel\.stream|gradients_->stream|channel->stream|clock_(?=\.get))", "model_->stream"),
        (r"\bPriority::high\b", "Priority::normal"),
        (r"(?<=, )stream(?=, [\w<])", "nullptr"),
        (r"static_cast<cudaStream_t>\(stream\)", "nullptr"),
        (r"(?<=\w, )stream(?=\);)", "nullptr"),
    ),
    "wrong pitch": together(
        replaced(
            (r"\b(\w+)\.pitch\b", r"\1.shape.c"),
            (r"\* pitch\b", "* (pitch + 1)"),
            (r"\+ 1\](?=;)", "+ 2]"),
            (r"\bplace\.pitch\b", "tensor.shape.c"),
            (_SIDES + r"\* (channels|pixels|threads|lanes|pitch)\b(?! *[<>])", r" * (\1 + 1)"),
        ),
        swapped(("x_pitch", "y_pitch")),
    ),
    "f32 for bf16": replaced(
        (r"\bDType::bf16\b", "DType::f32"),
        (r"\bDType::f32\b", "DType::bf16"),
        (r"\bncclBfloat16\b", "ncclFloat32"),
        (r"\bdouble(?= \w+ = (?:0|\w+\[))", "float"),
        (r"\bDType::f64\b", "DType::f32"),
        (r"__float2bfloat16_rn\(", "static_cast<__nv_bfloat16>("),
        (r"\b2 \* (?=model_->parameter_count|offset)", "4 * "),
        (r"sizeof\(std::uint16_t\)", "1"),
        (r"static_cast<double>\((?=[\w\[\]]+\))", "static_cast<float>("),
    ),
    "missing join": together(
        dropped(_CALLER + r"(?:record|join|join_clock|finish_all_reduces|stamp)\("),
    ),
    "stale choice": together(
        dropped(
            _CALLER + r"(?:erase|share|save|merge|insert|clear|destroy_graphs|free_replaced|append|push_back)\("
        ),
        dropped(r"(?:\+\+|--)[\w.]+(?:\.\w+)?;"),
        dropped(_CALLER + r"\w+ = (?:true|false|now|\{\}|0|what);"),
    ),
    "unbalanced group": together(
        dropped(r"(?:settle\()?ncclGroup(?:Start|End)\("),
        dropped(_CALLER + r"(?:group_start|group_end|abort_all|abort)\("),
        replaced(
            (r"std::exchange\((\w+(?:->\w+)?), (?:false|nullptr)\)", r"\1"),
            (r"\bgrouped_ = true", "grouped_ = false"),
            (r"\bgrouped_ = false", "grouped_ = true"),
        ),
        dropped(r"const (?:Collective|comm::Phase|comm::Collective|std::lock_guard) \w+\("),
        dropped(r"(?:observer->(?:begin|end)|ncclCommDestroy|MPI_Comm_free|MPI_Finalize|cudaGraphDestroy)\("),
    ),
    "forgotten micro-batch": replaced(
        (r"!last_micro_ \|\| ", ""),
        (r"(?<![\w.>])last_micro_(?= &&)", "true"),
        (r"\bif \(!last_micro_\) return;", "{}"),
        (r"\bfirst_micro_\b(?! =)", "true"),
        (r"(?<![\w.>])last_micro_\b(?! [=&]|;)", "true"),
        (r"micro_batch\.first_micro\b", "true"),
        (r"micro_batch\.last_micro\b", "true"),
        (r"!first_micro_", "false"),
        (r"\bif \(add\) [^;]*;", "{}"),
        (r"\(add \? [^:]+ : ([^)]+)\)", r"(\1)"),
        (r"\bvariant\(\)(?=\])", "0"),
        (r"(?<=, )add(?=\)|,)", "false"),
        (r"\b1 - present_", "present_"),
    ),
    "< for <=": replaced(
        (_SIDES + r"< (?=[\w(*])", " <= "),
        (_SIDES + r"<= (?=[\w(])", " < "),
        (_SIDES + r"> (?=[\w(])", " >= "),
        (_SIDES + r">= (?=[\w(])", " > "),
    ),
    "offset by one": replaced(
        (_SIDES + r"[+-] 1\b(?!\.)", ""),
        (r"(?<=for \(int )(\w+) = 0\b", r"\1 = 1"),
        (r"(?<=for \(std::size_t )(\w+) = 0\b", r"\1 = 1"),
        (r"\bceil_div\(([^,()]+(?:\([^()]*\))?), ([^(),]+)\)", r"((\1) / (\2))"),
        (r"(?<=[*/%+] )([2-9]|\d\d+)\b(?![.u])", lambda m: str(int(m.group(1)) + 1)),
        (r"\+ offset\b", "+ offset + 1"),
        (r"\+ first\b", "+ first + 1"),
    ),
    "wrong buffer": swapped(
        ("sent_", "received_"),
        ("results_", "answered_"),
        ("values", "momenta"),
        ("gradients", "values"),
        ("host_", "ordered_"),
        ("inbox.sent", "inbox.received"),
        ("ids.x", "ids.y"),
        ("ids.dy", "ids.dx"),
        ("mean", "deviation"),
        ("x", "y"),
        ("dx", "dy"),
        ("arena_", "scratch_"),
        ("outcome_at_", "waits_at_"),
        ("keys_at_", "sources_at_"),
        ("wait->begin", "wait->end"),
        ("channel.ready", "channel.done"),
        ("rows", "columns"),
        ("width", "height"),
        ("from", "to"),
        ("pixels", "labels"),
        ("source.pixels", "source.labels"),
    ),
    "dropped check": together(
        unchecked,
        dropped(r"(?:expects|ensures)\("),
        unguarded(r"fail\(|throw\b"),
        dropped(r"fail\("),
    ),
    "dropped return": unguarded(r"return\b|continue\b|break\b"),
    "wrong condition": replaced(
        (r" && ", " || "),
        (r" \|\| ", " && "),
        (r"(?<=\bif \()!(?=[\w(])", ""),
        (r"(?<=\bif \()(\w+_?)(?=\))", r"!\1"),
        (_SIDES + r"== ", " != "),
        (_SIDES + r"!= ", " == "),
    ),
    "wrong arithmetic": replaced(
        (r"\b(std::)?min(?=[(<])", r"\1max"),
        (r"\b(std::)?max(?=[(<])", r"\1min"),
        (_SIDES + r"\+ (?=[\w(])", " - "),
        (_SIDES + r"- (?=[\w(])", " + "),
        (r"(?<=[\w)\]]) \+= ", " -= "),
        (_SIDES + r"\* (?=[\w(])(?!const)", " / "),
        (_SIDES + r"/ (?=[\w(])", " * "),
    ),
    "dropped statement": together(
        dropped(
            r"(?:std::mem(?:cpy|set)|std::copy_n|copy|put|store|load|stamp|accumulate|to_bf16|send_scalars|receive|launch"
            r"|sgd|gradient_norm)\("
        ),
        dropped(r"[\w.\->\[\]]+ (?:[-+*/]?=) [^;{}]*;"),
    ),
}


def sites(name, text):
    """All single changes of one file, by operator, each change once, whichever operator finds it first."""
    all_code = code_of(text)
    code = without_messages(all_code)
    seen, found = set(), {}
    for operator, finder in OPERATORS.items():
        # Checks end in messages.
        changes = finder(all_code if operator == "dropped check" else code)
        found[operator] = []
        for begin, end, new in sorted(changes, key=lambda change: change[:2]):
            if isinstance(new, tuple):
                new = new[0] + text[new[1] : new[2]] + new[3]
            if (begin, end, new) not in seen and text[begin:end] != new:
                seen.add((begin, end, new))
                found[operator].append(Site(operator, name, begin, end, new))
    return found
