# shellcheck shell=bash
# A script's options, once: take_options reads the command line by `option_table`, option_help writes the table for --help.
# shellcheck disable=SC2034,SC2178  # variables of the script that sources this, by their names in the table
set -u

# Four words a row: "NAME[|NAME] [VALUE]", the variable that take_options sets, its value where the option is not given, and
# what the option does. Without VALUE it is a switch: 0 or 1. A variable with + behind it is a list: the option may be repeated.
option_table=()
option_rest=refused # what becomes of options that the table lacks: take_options sets it

# take_options refused|passed ARGUMENTS…: an option that the table lacks is refused, or passed to a program. That, arguments
# that are no options, and all that follows `--`, are left in program_options. The script defines usage().
take_options() {
    option_rest=$1
    shift
    local _row _word _name _value # underscored: variables of the table are called otherwise
    script_arguments=("$@") program_options=()
    for ((_row = 0; _row < ${#option_table[@]}; _row += 4)); do
        local -n _variable=${option_table[_row + 1]%+}
        if [[ ${option_table[_row + 1]} == *+ ]]; then _variable=(); else _variable=${option_table[_row + 2]}; fi
    done
    while (($#)); do
        _word=$1 _name=${1%%=*}
        shift
        case $_word in
            -h | --help)
                usage
                exit 0
                ;;
            --)
                program_options+=("$@")
                return
                ;;
        esac
        if ! _row=$(row_of "$_name"); then
            [[ $option_rest == passed || $_word != -* ]] ||
                fail 2 "unknown option $_name — ${0##*/} does not have it — it has: $(option_names); see --help"
            program_options+=("$_word")
            continue
        fi
        local -n _variable=${option_table[_row + 1]%+}
        if [[ ${option_table[_row]} != *\ * ]]; then
            [[ $_word == "$_name" ]] || fail 2 "$_word: $_name is a switch — it takes no value — write $_name, or leave it out"
            _variable=1
            continue
        fi
        if [[ $_word == *=* ]]; then
            _value=${_word#*=}
        else
            _value=${1:-}
            (($# == 0)) || shift
        fi
        [[ -n $_value ]] || fail 2 "$_name lacks its ${option_table[_row]#* } — it is not known what is meant — see --help"
        if [[ ${option_table[_row + 1]} == *+ ]]; then _variable+=("$_value"); else _variable=$_value; fi
    done
}

row_of() { # NAME
    local row
    for ((row = 0; row < ${#option_table[@]}; row += 4)); do
        if [[ "|${option_table[row]%% *}|" == *"|$1|"* ]]; then
            echo "$row"
            return
        fi
    done
    return 1
}

option_names() {
    local row names=''
    for ((row = 0; row < ${#option_table[@]}; row += 4)); do names+="${option_table[row]%% *}, "; done
    printf '%s' "${names//|/, }--help"
}

# The table as lines of --help.
option_help() {
    local rows=("${option_table[@]}" --help '' '' "this text") row width=0 names text words word line
    [[ $option_rest != passed ]] || rows+=(-- '' '' "all that follows goes to the program untouched")
    for ((row = 0; row < ${#rows[@]}; row += 4)); do
        names=${rows[row]//|/, }
        ((${#names} <= width)) || width=${#names}
    done
    for ((row = 0; row < ${#rows[@]}; row += 4)); do
        names=${rows[row]//|/, } text=${rows[row + 3]} line=''
        if [[ ${rows[row]} == *\ * && -n ${rows[row + 2]} ]]; then text+=" (default: ${rows[row + 2]})"; fi
        read -rd "" -a words <<<"$text" || true # several lines
        for word in "${words[@]}"; do
            if ((${#line} + ${#word} + width > 112)); then
                printf '  %-*s  %s\n' "$width" "$names" "$line"
                names='' line=''
            fi
            line+=${line:+ }$word
        done
        printf '  %-*s  %s\n' "$width" "$names" "$line"
    done
}

# option_value NAME: the value of an option among program_options, the last if it is repeated; empty if it is not there.
option_value() {
    local option previous='' value=''
    for option in "${program_options[@]}"; do
        [[ $previous != "$1" ]] || value=$option
        [[ $option != "$1="* ]] || value=${option#*=}
        previous=$option
    done
    printf '%s' "$value"
}

has_option() { # NAME
    local option
    for option in "${program_options[@]}"; do
        [[ $option != "$1" && $option != "$1="* ]] || return 0
    done
    return 1
}

# pick_options NAME…: leaves those of program_options, with their values, in `picked`.
pick_options() {
    local option take=0
    picked=()
    for option in "${program_options[@]}"; do
        if [[ $option == --* ]]; then
            take=0
            [[ " $* " != *" ${option%%=*} "* ]] || take=1
        fi
        ((!take)) || picked+=("$option")
    done
}
