# shellcheck shell=bash
# Sets up a machine: packages and the build. Sourced with `root` (the checkout) set.
set -u

: "${root:?the checkout, set by the script that sources this}"
# shellcheck source=messages.sh
source "$root/jobs/lib/messages.sh"
# shellcheck source=option_table.sh
source "$root/jobs/lib/option_table.sh"
# shellcheck source=programs.sh
source "$root/jobs/lib/programs.sh"

# What ccache keeps of one checkout serves every other: paths count from the checkout, wherever it lies.
export CCACHE_BASEDIR=${CCACHE_BASEDIR:-$root} CCACHE_NOHASHDIR=${CCACHE_NOHASHDIR:-1}

# packages_for MANAGER KIND…: a line "package proof what-is-left-out" for each package of packages.txt that MANAGER (apt, dnf or
# conda) has for these kinds.
packages_for() {
    local manager=$1 kind apt dnf conda proof without wanted
    local -A called
    shift
    while read -r kind apt dnf conda proof without; do
        called=([apt]=$apt [dnf]=$dnf [conda]=$conda)
        [[ -n $kind && $kind != \#* && ${called[$manager]} != - ]] || continue
        for wanted in "$@"; do
            if [[ $kind == "$wanted" ]]; then echo "${called[$manager]} $proof $without"; fi
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

# require_present WHY MANAGER: without apt, or the right to use it, the user installs; when nothing of the build is missing, all
# is well.
require_present() {
    local package proof missing=() names=()
    while read -r package proof _; do
        if ! have "$proof"; then
            missing+=("$package ($proof)")
            names+=("$package")
        fi
    done < <(packages_for "$2" build)
    ((${#missing[@]})) || return 0
    say "$1"
    printf '  missing: %s\n' "${missing[@]}" >&2
    local how=''
    case $2 in
        apt) how="as root: apt-get install ${names[*]} — or " ;;
        dnf) how="as root: dnf install ${names[*]} (Rocky: epel-release and crb first; mpirun: module load mpi) — or " ;;
    esac
    fail 2 "these are missing — the programs cannot be built — ${how}with conda: conda env create -f" \
        "$root/environment.yml && conda activate deeplab-hpc; then run this again"
}

# in_release PACKAGE: does apt know of it, by its name or as something that another provides?
in_release() {
    apt-cache show --no-all-versions "$1" >/dev/null 2>&1 || apt-get install -s -q "$1" >/dev/null 2>&1
}

# What the release of this system lacks of what install_packages was asked for: "package: what is left out without it".
lacking=()

# install_packages KIND…: installs what packages.txt lists for these kinds. What the release lacks is an error for the build;
# else it is said, and kept in `lacking`.
install_packages() {
    if [[ ${DEEPLAB_NO_INSTALL:-0} == 1 ]]; then
        say "DEEPLAB_NO_INSTALL=1: nothing is installed"
        return
    fi
    local kinds=("$@") become=()
    if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
        local manager=conda
        if command -v dnf >/dev/null; then manager=dnf; fi
        require_present "no apt on this machine" "$manager"
        return
    fi
    local package proof without missing=()
    declare -A proofs=() left_out=()
    while read -r package proof without; do
        # Virtual packages (libjpeg-dev may be one) count when something provides them.
        if [[ $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) != *" installed" ]]; then
            missing+=("$package")
            proofs[$package]=$proof left_out[$package]=$without
        fi
    done < <(packages_for apt "${kinds[@]}")

    lacking=()
    if all_lacking; then set_lacking_aside; fi
    if ((${#missing[@]} == 0)); then
        say "all packages are installed"
        return
    fi
    if ((EUID != 0)); then
        if ! command -v sudo >/dev/null; then
            require_present "not root, and no sudo" apt
            return
        fi
        become=(sudo)
    fi
    local log status=0
    log=$(mktemp)
    "${become[@]}" apt-get update -q >"$log" 2>&1 || status=$?
    if ((status == 0)); then
        set_lacking_aside
        say "installing ${missing[*]:-nothing}"
        "${become[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" \
            >>"$log" 2>&1 || status=$?
    fi
    ((status == 0)) || tail -n 20 "$log" >&2
    rm -f "$log"
    ((status == 0)) || fail 2 "apt-get could not install the packages (above) — the programs cannot be built — repair the" \
        "package sources, or install by hand and run with DEEPLAB_NO_INSTALL=1"
}

# The next two are of install_packages, and work on its `missing`, `proofs` and `left_out`.

# Is nothing left to install? A machine that has all that its release offers needs no download for being told so.
all_lacking() {
    compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null || return 1
    local package
    for package in "${missing[@]}"; do
        if [[ -z ${left_out[$package]} ]] || in_release "$package"; then return 1; fi
    done
}

# What the release lacks goes to `lacking`; a part of the build that came in another way is there.
set_lacking_aside() {
    local package there=()
    for package in "${missing[@]}"; do
        if in_release "$package"; then
            there+=("$package")
        elif [[ -n ${left_out[$package]} ]]; then
            lacking+=("$package: ${left_out[$package]}")
            say "this release has no $package — left out: ${left_out[$package]}"
        elif ! have "${proofs[$package]}"; then
            fail 2 "this release has no package $package, and ${proofs[$package]} is not there in another way — the programs" \
                "cannot be built — install it by hand, or all with conda: conda env create -f $root/environment.yml"
        fi
    done
    missing=("${there[@]}")
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
