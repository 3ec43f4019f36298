{ lib, system }:
let
  # Where this machine's programs are, written by the test; a flake is evaluated without an environment.
  host = builtins.fromJSON (builtins.readFile ./host.json);

  runCommand =
    name: env: script:
    derivation (
      builtins.removeAttrs env [ "meta" "nativeBuildInputs" ]
      // {
        inherit name system;
        builder = "/bin/bash";
        args = [
          "-euc"
          # Not the script's last command in the shell's place: coreutils close their output before they end, upon
          # which Nix kills whoever does not end at once.
          "PATH=${host.path}; ${script}\nexit"
        ];
        preferLocalBuild = true;
        allowSubstitutes = false;
      }
    )
    // {
      meta = env.meta or { };
    };
  # A package with no more than the program that this machine has; what it has not got fails when it is run.
  package = name: runCommand name { } ''mkdir -p "$out/bin"'';

  callPackageWith =
    all: file: more:
    let
      function = import file;
    in
    function (builtins.intersectAttrs (builtins.functionArgs function) all // more);

  python3Packages = {
    hatchling = package "hatchling";
    click = package "click";
    jinja2 = package "jinja2";
    pydantic = package "pydantic";
    rich = package "rich";
    sh = package "sh";
    buildPythonApplication =
      args:
      runCommand "${args.pname}-${args.version}"
        {
          inherit (args) src meta postInstall;
          # How nixpkgs' makeWrapper is called, which is what there is to test.
          wrapper = map toString args.makeWrapperArgs;
        }
        ''
          mkdir -p "$out/bin" "$out/lib"
          cp -r "$src/virshle" "$out/lib/"
          {
            echo '#!/bin/bash'
            set -- $wrapper
            while [ $# -gt 0 ]; do
              case $1 in
              --suffix) echo "export PATH=\$PATH:$4"; shift 4 ;;
              --set-default) echo "export $2=\''${$2-'$3'}"; shift 3 ;;
              *) echo "not known here: $1" >&2; exit 1 ;;
              esac
            done
            echo "export PYTHONPATH=$out/lib"
            # The name by which it was called is in its usage and in completions. Not by exec -a: Python looks for the
            # packages of its environment where that name is found.
            echo 'exec ${host.python} -c "import sys; sys.argv[0] = \"v\"; import virshle.cli.main as m; m.main()" "$@"'
          } >"$out/bin/v"
          chmod 755 "$out/bin/v"
          installShellCompletion() {
            shift 2
            while [ $# -gt 0 ]; do
              mkdir -p "$out/share/completions"
              cat "$2" >"$out/share/completions/v.''${1#--}"
              shift 2
            done
          }
          eval "$postInstall"
        '';
  };

  all = (import ./names.nix).only "packages" offered // { inherit lib; };
  offered = lib.genAttrs [
    "binutils"
    "cloud-hypervisor"
    "coreutils"
    "dosfstools"
    "e2fsprogs"
    "fakeroot"
    "findutils"
    "fish"
    "installShellFiles"
    "mtools"
    "nix"
    "nixfmt-tree"
    "openssh"
    "passt"
    "procps"
    "qemu_kvm"
    "ruff"
    "shellcheck"
    "socat"
    "sqlite"
    "strace"
    "util-linux"
    "zsh"
  ] package
  // {
    inherit python3Packages runCommand;
    callPackage = callPackageWith all;
    python3.withPackages = select: runCommand "python3-env" { names = map (p: p.name) (select pythonPackages); } ''mkdir "$out"'';
    mkShell = args: runCommand "shell" { inherit (args) packages shellHook; outputs = [ "out" ]; } ''mkdir "$out"'';
    writeShellScriptBin = name: text: runCommand name { inherit text; } ''mkdir -p "$out/bin"; printf %s "$text" >"$out/bin/v"'';
    runtimeShell = "/bin/bash";
    # In form: what it would do takes a NixOS.
    testers.runNixOSTest =
      test:
      runCommand test.name {
        inherit (test) testScript;
        config = (test.nodes.host { lib.mkForce = value: value; }).environment.etc."virshle/config.toml".text;
      } ''echo "$testScript" >"$out"'';
    writeText = name: text: runCommand name { inherit text; } ''printf %s "$text" >"$out"'';
    stdenv.hostPlatform = {
      inherit system;
      isAarch64 = system == "aarch64-linux";
    };
    # In form what the tiny image is made of. Real are only what runs while it is made: busybox and e2fsprogs.
    linuxPackages.kernel = runCommand "linux" { } ''
      mkdir -p "$out/lib/modules/6.1.0/kernel"
      for name in bzImage Image; do echo kernel >"$out/$name"; done
      echo kernel/ext4.ko: >"$out/lib/modules/6.1.0/modules.dep"
      echo module >"$out/lib/modules/6.1.0/kernel/ext4.ko"
    '';
    pkgsStatic = {
      busybox = runCommand "busybox" { file = ./busybox; } ''
        mkdir -p "$out/bin"
        cp "$file" "$out/bin/busybox"
        chmod 755 "$out/bin/busybox"
      '';
      dropbear = programs "dropbear" [ "dropbear" "dropbearkey" "dbclient" ];
      socat = programs "socat" [ "socat" ];
      e2fsprogs = runCommand "e2fsprogs" { } ''
        mkdir -p "$out/bin"
        for name in mke2fs debugfs resize2fs; do ln -s "$(command -v $name)" "$out/bin/"; done
      '';
    };
  };
  programs =
    name: files:
    runCommand name { inherit files; } ''
      mkdir -p "$out/bin"
      for file in $files; do echo "not $file" >"$out/bin/$file"; done
    '';
  pythonPackages = lib.genAttrs [
    "click"
    "hypothesis"
    "jinja2"
    "jsonschema"
    "pydantic"
    "pytest"
    "pytest-subprocess"
    "pytest-xdist"
    "rich"
    "sh"
  ] package;
in
all
