# The `tiny` image from nixpkgs' packages.
{ pkgs ? import <nixpkgs> { } }:
let
  kernel = pkgs.linuxPackages.kernel;
  static = pkgs.pkgsStatic;
in
import ./tiny.nix {
  inherit (pkgs.stdenv.hostPlatform) system;
  # nixpkgs: pkgs/os-specific/linux/kernel/build.nix. Which attribute has the name differs from release to release.
  kernel = "${kernel}/${if pkgs.stdenv.hostPlatform.isAarch64 then "Image" else "bzImage"}";
  # Since nixpkgs 25.11 the modules are an output of their own.
  modules = kernel.modules or kernel;
  inherit (static) busybox dropbear socat e2fsprogs;
}
