# Makes the `tiny` image from the packages of nixpkgs.
{ pkgs ? import <nixpkgs> { } }:
let
  kernel = pkgs.linuxPackages.kernel;
  static = pkgs.pkgsStatic;
in
import ./tiny.nix {
  inherit (pkgs.stdenv.hostPlatform) system;
  # nixpkgs: pkgs/os-specific/linux/kernel/build.nix. The attribute that has this name differs between releases.
  kernel = "${kernel}/${if pkgs.stdenv.hostPlatform.isAarch64 then "Image" else "bzImage"}";
  # Since nixpkgs 25.11 the modules are a separate output.
  modules = kernel.modules or kernel;
  inherit (static) busybox dropbear socat e2fsprogs;
}
