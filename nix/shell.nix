# All that the tests need: `nix develop`, then `pytest tests/unit`, `python -m virshle ls`.
{
  mkShell,
  python3,
  binutils,
  cloud-hypervisor,
  dosfstools,
  e2fsprogs,
  fakeroot,
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
}:
mkShell {
  packages = [
    (python3.withPackages (import ./python.nix))
    binutils
    cloud-hypervisor
    dosfstools
    e2fsprogs
    fakeroot
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
  ];
  shellHook = ''
    export PYTHONPATH=$PWD''${PYTHONPATH:+:$PYTHONPATH}
  '';
}
