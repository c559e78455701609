# shellcheck shell=bash
# Which programs run, in which environment, and what they say. Sourced with `root` (the checkout, or an installation's
# share/deeplab-hpc) set.
# shellcheck disable=SC2154  # command
set -u

: "${root:?the checkout, set by the script that sources this}"

# Sources the site file: a path, or NAME for jobs/site/NAME.sh.
load_site() {
    [[ -n ${DEEPLAB_SITE:-} ]] || return 0
    local file=$DEEPLAB_SITE status=0
    [[ -f $file ]] || file=$root/jobs/site/$DEEPLAB_SITE.sh
    [[ -f $file ]] || fail 2 "DEEPLAB_SITE=$DEEPLAB_SITE is neither a file nor a name in $root/jobs/site — the job would run" \
        "without the site's modules and the interconnect's settings — set it to the path of a site file, or unset it"
    [[ $file == */* ]] || file=./$file # source would look along PATH
    set +eu # functions such as `module` use unset variables
    # shellcheck disable=SC1090
    source "$file"
    status=$?
    set -eu
    ((status == 0)) || fail 2 "the site file $file ended with $status — the job would run half prepared — correct it," \
        "or end it with \`true\` if that is meant"
}

# program_path NAME: in DEEPLAB_BUILD (relative: to the checkout), else where cmake --install put it, else in the checkout's build.
program_path() {
    local build=${DEEPLAB_BUILD:-build}
    if [[ -z ${DEEPLAB_BUILD:-} && -f $root/jobs/lib/programs ]]; then
        realpath -m "$root/$(<"$root/jobs/lib/programs")/$1"
        return
    fi
    [[ $build == /* ]] || build=$root/$build
    printf '%s/bin/%s' "$build" "$1"
}

require_program() {
    [[ -x $1 ]] || fail 2 "the program $1 is missing — there is nothing to run — build it (README.md), or set" \
        "DEEPLAB_BUILD to the folder of a finished build"
}

# Open MPI refuses to start for root otherwise (containers, test machines).
allow_root() {
    if ((EUID == 0)); then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi
}

# json_value KEY: the number, or the text without its quotes, of the first line `"KEY": value` of a program's JSON on stdin;
# empty where there is none.
json_value() { sed -n "/^ *\"${1//./\\.}\": /{s/^[^:]*: \"\{0,1\}\([^\",]*\)\"\{0,1\},\{0,1\}\$/\1/p;q;}"; }

print_command() {
    printf '%q ' "${command[@]}"
    printf '\n'
}
