# `v` and all programs that it runs. These programs come after the caller's PATH, so the host's own Nix and VMM are used
# if it has them.
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

  # Only the files of the package, so that a change of a test or a page does not build it again.
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

  # The flake has a check for the tests. There they do not delay `nix run`.
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
