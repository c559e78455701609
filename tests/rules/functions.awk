# Lines of every function in clang-formatted C++ or CUDA sources: "LINES FILE:LINE NAME".
# A namespace's content is not indented, a class's is by 4; a block closes where a line at its own indent begins with "}".
function name_of(head) {
    gsub(/__launch_bounds__\([^)]*\)/, "", head)
    if (match(head, /TEST[_FP]*\(/)) {
        sub(/^[^(]*\(/, "", head)
        sub(/\).*/, "", head)
        sub(/, */, ".", head)
        return head
    }
    sub(/ *\(.*/, "", head)
    sub(/.* [*&]*/, "", head)
    return head == "" ? "?" : head
}
FNR == 1 { depth = 0; head = ""; raw = 0; macro = 0 }
{
    line = $0
    # What stands in a raw string is no code.
    if (raw) {
        if (!(end = index(line, raw_end))) next
        raw = 0
        line = "                    " substr(line, end + length(raw_end))
    }
    while (match(line, /R"[a-z]*\(/)) {
        raw_end = ")" substr(line, RSTART + 2, RLENGTH - 3) "\""
        begin_raw = RSTART + RLENGTH
        end = index(substr(line, begin_raw), raw_end)
        if (!end) raw = 1
        line = substr(line, 1, RSTART - 1) (end ? substr(line, begin_raw + end + length(raw_end) - 1) : "0")
    }
    if (macro || line ~ /^ *#/) { macro = line ~ /\\$/; next }
    sub(/ *\/\/.*$/, "", line)
    if (line ~ /^ *$/ || line ~ /^ *(public|private|protected):$/) next
    indent = match(line, /[^ ]/) - 1
    if (depth && indent == at[depth] && substr(line, indent + 1, 1) == "}") {
        if (kind[depth] == "function") print FNR - start[depth] + 1, FILENAME ":" start[depth], name[depth]
        if (line !~ /[{]$/) { --depth; head = "" ; next }   # "} else {" and the like stay open
        next
    }
    if (depth && kind[depth] != "class") next
    if (indent == (depth ? at[depth] + 4 : 0) && line !~ /^ *}/) { head = line; begin = FNR }
    else head = head " " line
    if (line !~ /[{]$/) next
    if (head ~ /^ *(inline )?namespace( |$)/ || head ~ /^extern "C"/) next
    ++depth; at[depth] = match(head, /[^ ]/) - 1; start[depth] = begin; name[depth] = name_of(head)
    if (head ~ /^ *(template <.*> )?(typedef )?(class|struct|union|enum)( |$)/ && head !~ /\)[^()]*[{]$/) kind[depth] = "class"
    else if (head ~ /= *[A-Za-z_:<>0-9]*[{]$/ || head !~ /[(\[]/) kind[depth] = "data"
    else kind[depth] = "function"
    head = ""
}
