# The `tiny` image from nixpkgs' packages.
{ pkgs ? import <nixpkgs> { } }:
let
  kernel = pkgs.linuxPackages.kernel;
  static = pkgs.pkgsStatic;
in
import ./tiny.nix {
  inherit (pkgs.stdenv.hostPlatform) system;
  # bzImage on x86_64, Image on aarch64: nixpkgs knows the name.
  kernel = "${kernel}/${pkgs.stdenv.hostPlatform.linux-kernel.target}";
  # Since nixpkgs 25.11 the modules are an output of their own.
  modules = kernel.modules or kernel;
  inherit (static) busybox dropbear socat e2fsprogs;
}
