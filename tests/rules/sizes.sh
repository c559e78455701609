#!/usr/bin/env bash
# Files of at most 450 lines, functions of at most 60: more asks to be split by purpose. Exceptions say why they are none.
# Functions are counted in C++ and CUDA (by functions.awk, since clang-format fixes the layout), Python and shell.
# usage: sizes.sh SOURCE_DIR
set -euo pipefail
root=$1
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$(dirname "$0")/sources.sh"
cd "$root"

most_of_a_file=450 most_of_a_function=60

# FILE [FUNCTION] | lines that it may have | why
exceptions='
src/cuda/kernels/loss.cu head_kernel                   | 72 | one pass over the logits of a pixel, whose values stay in registers
src/cuda/kernels/batch_norm_grad.cu grad_sums_kernel    | 61 | one pass over a tile, whose values stay in registers
'

allowed() { # FILE FUNCTION LINES
    local file function lines why
    while IFS='|' read -r file lines why; do
        read -r file function <<<"$file"
        [[ $file == "$1" && $function == "$2" && -n $why ]] || continue
        used+="|$file $function|"
        (($3 <= lines)) && return
    done <<<"$exceptions"
    return 1
}

failed=0 used=''
too_long() { # FILE FUNCTION LINES LIMIT WHERE
    allowed "$1" "$2" "$3" && return
    echo "$5 has $3 lines, at most $4 are wanted: split it by purpose, or say in tests/rules/sizes.sh why not"
    failed=1
}

# functions FILE…: "LINES FILE:LINE NAME", a line for each function
functions() {
    local file cpp=() python=() shell=()
    for file in "$@"; do
        case $file in
            *.cpp | *.h | *.cu | *.cuh) cpp+=("$file") ;;
            *.py) python+=("$file") ;;
            *.sh | *.bash) shell+=("$file") ;;
        esac
    done
    awk -f "$here/functions.awk" /dev/null "${cpp[@]}"
    awk '
        function ends() { if (start) print last - start + 1, file ":" start, name; start = 0 }
        FNR == 1 { ends(); file = FILENAME }
        /^ *$/ || /^ *#/ { next }
        start && match($0, /[^ ]/) - 1 <= at && !/^ *\)/ { ends() }
        !start && /^ *(async )?def / { start = FNR; at = match($0, /[^ ]/) - 1; name = $0; sub(/^.*def /, "", name); sub(/\(.*/, "", name) }
        { last = FNR }
        END { ends() }' /dev/null "${python[@]}"
    awk '
        /^[a-z_A-Z0-9]+\(\) *[{(]( *#.*)?$/ { start = FNR; name = $1; sub(/\(.*/, "", name) }
        start && /^[})]/ { print FNR - start + 1, FILENAME ":" start, name; start = 0 }' /dev/null "${shell[@]}"
}

# The counters see what they are for: functions of 61 lines, each in the layouts of its language.
check=$(mktemp -d)
trap 'rm -rf "$check"' EXIT
body() { for ((i = 0; i < $1; ++i)); do echo "$2"; done; }
{
    echo 'namespace a {'
    printf 'std::string long_one(int a,\n                     int b) {\n' && body 58 '    if (a) {}' && echo '}'
    printf 'struct S {\n    int short_one() { return 1; }\n    template <class T>\n    void member(T t) const {\n'
    body 59 '        t();' && printf '    }\n};\n' && printf 'const int table[] = {\n' && body 90 '    1,' && echo '};'
    printf 'A::A(int x)\n    : x_(x), text_(R"(\n}\n)") {\n' && body 56 '    f();  // {' && echo '}'
    printf 'TEST(Some, Thing) {\n#pragma omp parallel\n    {\n' && body 56 '        g();' && printf '    }\n}\n'
    printf 'void brief() {\n' && body 58 '    h();' && printf '}\n}  // namespace a\n'
} >"$check/a.cpp"
{ printf 'class C:\n    def method(self,\n               x):\n' && body 59 '        f()' && printf '\ndef brief():\n' && body 59 '    f()'; } >"$check/b.py"
{ printf 'long() {\n' && body 59 '    :' && printf '}\nbrief() {\n' && body 58 '    :' && echo '}'; } >"$check/c.sh"
counted=$(functions "$check/a.cpp" "$check/b.py" "$check/c.sh" | awk '{ print $1 }' | tr '\n' ' ')
if [[ $counted != '61 61 61 61 60 61 60 61 60 ' ]]; then
    echo "the counters do not see what they are for: $counted"
    exit 1
fi

mapfile -t files < <(sources '*.cpp' '*.h' '*.cu' '*.cuh' '*.py' '*.sh' '*.bash' '*.awk' '*.cmake' '*CMakeLists.txt' | sort -u)
while read -r lines file; do
    ((lines <= most_of_a_file)) || too_long "$file" '' "$lines" "$most_of_a_file" "$file"
done < <(wc -l "${files[@]}" | sed '$d')
count=0
while read -r lines place name; do
    count=$((count + 1))
    ((lines <= most_of_a_function)) || too_long "${place%:*}" "$name" "$lines" "$most_of_a_function" "$place: $name"
done < <(functions "${files[@]}")
while IFS='|' read -r name _; do
    read -r file function <<<"$name"
    [[ -z $file || $used == *"|$file $function|"* ]] && continue
    echo "$name needs no exception any more: remove it from tests/rules/sizes.sh"
    failed=1
done <<<"$exceptions"
echo "${#files[@]} files, $count functions"
((failed == 0 && count > 0))
