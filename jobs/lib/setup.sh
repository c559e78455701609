# shellcheck shell=bash
# Sets up a machine: packages and the build. Sourced with `root` (the checkout) set.

: "${root:?the checkout, set by the script that sources this}"
# shellcheck source=slurm.sh
source "$root/jobs/lib/slurm.sh" # say, fail, allow_root

# What ccache keeps of one checkout serves every other: paths count from the checkout, wherever it lies.
export CCACHE_BASEDIR=${CCACHE_BASEDIR:-$root} CCACHE_NOHASHDIR=${CCACHE_NOHASHDIR:-1}

# packages_for KIND…: "package proof" lines of packages.txt.
packages_for() {
    local package kind proof wanted
    while read -r package kind proof; do
        [[ -n $package && $package != \#* ]] || continue
        for wanted in "$@"; do
            if [[ $kind == "$wanted" ]]; then echo "$package $proof"; fi
        done
    done <"$root/jobs/lib/packages.txt"
}

# Is a command or a header (with a dot or a slash in its name) there? conda's headers stand under CONDA_PREFIX.
have() {
    if [[ $1 == *[./]* ]]; then
        local flags=(-I/usr/include/hdf5/serial) # Debian's
        [[ -z ${CONDA_PREFIX:-} ]] || flags+=("-I$CONDA_PREFIX/include")
        if command -v mpicxx >/dev/null; then
            local more
            read -ra more <<<"$(mpicxx --showme:compile 2>/dev/null || true)"
            flags+=("${more[@]}")
        fi
        echo "#include <$1>" | c++ -std=c++20 -E "${flags[@]}" -x c++ - >/dev/null 2>&1
    else
        command -v "$1" >/dev/null
    fi
}

# Without apt (or the right to use it) the user installs; when nothing is missing, all is well.
require_present() {
    local package proof missing=()
    while read -r package proof; do
        if ! have "$proof"; then missing+=("$package ($proof)"); fi
    done
    ((${#missing[@]})) || return 0
    say "$1"
    printf '  missing: %s\n' "${missing[@]}" >&2
    fail 2 "these are missing — the programs cannot be built — with conda: conda env create -f $root/environment.yml &&" \
        "conda activate deeplab-hpc; then run this again"
}

# install_packages KIND…: installs what packages.txt lists for these kinds.
install_packages() {
    if [[ ${DEEPLAB_NO_INSTALL:-0} == 1 ]]; then
        say "DEEPLAB_NO_INSTALL=1: nothing is installed"
        return
    fi
    local kinds=("$@") become=()
    if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
        require_present "no apt on this machine" < <(packages_for build)
        return
    fi
    local package _ missing=()
    while read -r package _; do
        # Virtual packages (libjpeg-dev may be one) count when something provides them.
        if [[ $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) != *" installed" ]]; then missing+=("$package"); fi
    done < <(packages_for "${kinds[@]}")
    if ((${#missing[@]} == 0)); then
        say "all packages are installed"
        return
    fi
    if ((EUID != 0)); then
        if ! command -v sudo >/dev/null; then
            require_present "not root, and no sudo" < <(packages_for build)
            return
        fi
        become=(sudo)
    fi
    say "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    local log status=0
    log=$(mktemp)
    {
        "${become[@]}" apt-get update -q &&
            "${become[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
    } >"$log" 2>&1 || status=$?
    ((status == 0)) || tail -n 20 "$log" >&2
    rm -f "$log"
    ((status == 0)) || fail 2 "apt-get could not install the packages (above) — the programs cannot be built — repair the" \
        "package sources, or install by hand and run with DEEPLAB_NO_INSTALL=1"
}

# The folder of the build: DEEPLAB_BUILD, from the checkout where relative.
build_folder() {
    local folder=${DEEPLAB_BUILD:-build}
    [[ $folder == /* ]] || folder=$root/$folder
    printf '%s' "$folder"
}

# CUDA costs nvcc's time and serves nobody on a machine without a GPU.
cuda_option() {
    if command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q '^GPU '; then echo AUTO; else echo OFF; fi
}

# configure FOLDER options…: the generator of an existing build stays.
configure() {
    local folder=$1
    shift
    local generator=()
    [[ -e $folder/CMakeCache.txt ]] || generator=(-G Ninja)
    cmake -S "$root" -B "$folder" "${generator[@]}" "$@"
}

processors() { nproc 2>/dev/null || echo 2; }
