# As much of nixpkgs as the tiny image names, and nothing behind it: for checking that its expression fits.
{ }:
let
  fake = name: derivation { inherit name; system = builtins.currentSystem; builder = "/bin/sh"; };
in
(import ../../nix/nixpkgs/names.nix).only "packages" {
  stdenv.hostPlatform = { system = builtins.currentSystem; isAarch64 = false; };
  linuxPackages.kernel = fake "linux" // { modules = fake "linux-modules"; };
  pkgsStatic = {
    busybox = fake "busybox";
    dropbear = fake "dropbear";
    socat = fake "socat";
    e2fsprogs = fake "e2fsprogs";
  };
}
