# `v` and all it runs. The programs come after those of the caller's PATH: a host's own Nix and VMM are used where it
# has them.
{
  lib,
  python3Packages,
  installShellFiles,
  cloud-hypervisor,
  coreutils,
  dosfstools,
  findutils,
  mtools,
  nix,
  openssh,
  passt,
  qemu_kvm,
  socat,
  util-linux,
  # The flake that the built-in image `nixos` is built from; null: none.
  flake ? null,
}:
let
  programs = [
    cloud-hypervisor
    coreutils
    dosfstools
    findutils
    mtools
    nix
    openssh
    passt
    qemu_kvm
    socat
    util-linux
  ];
in
python3Packages.buildPythonApplication {
  pname = "virshle";
  version = builtins.head (
    builtins.match ".*\n__version__ = \"([^\"]+)\".*" (builtins.readFile ../virshle/__init__.py)
  );
  pyproject = true;

  # Only what goes into the package: no edit of a test or a page builds it anew.
  src = builtins.path {
    name = "virshle-source";
    path = ../.;
    filter =
      path: _:
      let
        file = lib.removePrefix "${toString ../.}/" path;
      in
      builtins.elem file [
        "LICENSE"
        "README.md"
        "pyproject.toml"
        "virshle"
      ]
      || lib.hasPrefix "virshle/" file && !lib.hasInfix "__pycache__" file;
  };

  build-system = [ python3Packages.hatchling ];
  dependencies = with python3Packages; [
    click
    jinja2
    pydantic
    rich
    sh
  ];
  nativeBuildInputs = [ installShellFiles ];

  makeWrapperArgs = [
    "--suffix"
    "PATH"
    ":"
    (lib.makeBinPath programs)
  ]
  ++ lib.optionals (flake != null) [
    "--set-default"
    "VIRSHLE_FLAKE"
    flake
  ];

  postInstall = ''
    installShellCompletion --cmd v \
      --bash <($out/bin/v completion bash) \
      --zsh <($out/bin/v completion zsh) \
      --fish <($out/bin/v completion fish)
  '';

  # The tests are a check of the flake, where they do not keep anybody from `nix run`.
  doCheck = false;
  pythonImportsCheck = [ "virshle.cli.main" ];

  meta = {
    description = "VM manager for people who love Nix and bare processes";
    license = lib.licenses.asl20;
    mainProgram = "v";
    platforms = [
      "x86_64-linux"
      "aarch64-linux"
    ];
  };
}
