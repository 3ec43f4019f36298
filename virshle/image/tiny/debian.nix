# The parts of the `tiny` image from Debian packages, and the image.
#
# busybox: a folder in the store with bin/busybox, static. It is given apart, for it is what unpacks the others.
# debs: JSON, a list of {"path": "/nix/store/..deb"} (in the store already) or {"url": "..", "sha256": ".."}: the kernel
# (linux-image-*), dropbear-bin, socat, e2fsprogs and all libraries these need. The list is resolved by apt, not written
# here, since names and versions differ between releases (libssl3, libssl3t64).
{ system ? builtins.currentSystem
, busybox
, debs
, name ? "tiny"
}:
let
  shell = builtins.storePath busybox;

  # Told apart by name, so that a new release of socat does not unpack the kernel again.
  isKernel = deb: builtins.match "(.*-)?linux-(image|modules|binary)-.*" (baseNameOf (deb.path or deb.url)) != null;

  file = deb:
    if deb ? path then builtins.storePath deb.path
    else
      import <nix/fetchurl.nix> {
        inherit (deb) url sha256;
        name = builtins.replaceStrings [ "%" "~" ] [ "_" "_" ] (baseNameOf deb.url);
      };

  unpack = step: list: derivation {
    inherit system step;
    name = "${name}-${step}";
    builder = "${shell}/bin/busybox";
    args = [ "sh" "-eu" ./unpack.sh ];
    debs = map file list;
    busybox = shell;
  };

  sorted = builtins.partition isKernel (builtins.fromJSON debs);
  kernel = unpack "kernel" sorted.right;
  programs = unpack "programs" sorted.wrong;
in
import ./tiny.nix {
  inherit system name;
  kernel = "${kernel}/kernel";
  modules = kernel;
  busybox = shell;
  dropbear = programs;
  socat = programs;
  e2fsprogs = programs;
  libs = "${programs}/libs";
  mke2fs = "${programs}/tools/mke2fs";
  debugfs = "${programs}/tools/debugfs";
}
