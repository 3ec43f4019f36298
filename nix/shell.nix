# All programs that the tests need, and `v` from the working tree: `nix develop`, then `v ls`, `pytest tests/unit`.
{
  mkShell,
  writeShellScriptBin,
  python3,
  binutils,
  cloud-hypervisor,
  dosfstools,
  e2fsprogs,
  fakeroot,
  fish,
  mtools,
  nix,
  openssh,
  passt,
  procps,
  qemu_kvm,
  ruff,
  shellcheck,
  socat,
  sqlite,
  strace,
  util-linux,
  zsh,
}:
mkShell {
  packages = [
    (writeShellScriptBin "v" ''exec python3 -m virshle "$@"'')
    (python3.withPackages (import ./python.nix))
    binutils
    cloud-hypervisor
    dosfstools
    e2fsprogs
    fakeroot
    fish
    mtools
    nix
    openssh
    passt
    procps
    qemu_kvm
    ruff
    shellcheck
    socat
    sqlite
    strace
    util-linux
    zsh
  ];
  shellHook = ''
    export PYTHONPATH=$PWD''${PYTHONPATH:+:$PYTHONPATH}
  '';
}
