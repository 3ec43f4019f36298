# As much of NixOS as nixosModules.guest sets or reads: names and types are those of names.toml, and nothing comes of them.
{
  lib,
  modules,
  # Packages that are there, in the place of those that are names alone.
  real ? { },
}:
let
  fake = name: {
    type = "derivation";
    inherit name;
    outPath = "/nix/store/00000000000000000000000000000000-${name}";
    drvPath = "/nix/store/00000000000000000000000000000000-${name}.drv";
  };
  packages =
    lib.genAttrs [
      "coreutils"
      "dosfstools"
      "e2fsprogs"
      "fakeroot"
      "mtools"
      "nix"
      "openssh"
      "socat"
      "sqlite"
      "systemd"
      "util-linux"
    ] fake
    // {
      stdenv.hostPlatform = { inherit (lib.systems.elaborate "x86_64-linux") system efiArch isAarch64; };
      closureInfo = { rootPaths }: fake "closure-info";
      # All that a derivation is made of is forced, as in the real one.
      runCommand = name: env: script: builtins.deepSeq [ (removeAttrs env [ "toplevel" ]) script ] (fake name);
    }
    // real;
  pkgs = (import ../nixpkgs/names.nix).only "packages" (
    packages // { buildPackages.callPackage = lib.callPackageWith packages; }
  );
in
(lib.evalModules {
  modules = [ ./options.nix ] ++ modules;
  specialArgs = {
    inherit pkgs;
    modulesPath = ./.;
  };
}).config
