# The parts of the `tiny` image from Debian packages, and the image.
#
# parts: a folder with parts.json, a list of {"url": "..", "sha256": ".."}: the kernel (linux-image-*), dropbear-bin,
# socat, e2fsprogs and all libraries these need; and with busybox/bin/busybox, static, which is given apart, for it is
# what unpacks the others. The list is resolved by apt, not written here, since names and versions differ between
# releases (libssl3, libssl3t64); it is the pin: the same list makes the same bytes.
{ system ? builtins.currentSystem
, parts
, name ? "tiny"
}:
let
  # A folder, not the file: Nix runs a builder under the name of its store path, and busybox refuses to be called
  # anything it does not know.
  shell = builtins.path { path = parts + "/busybox"; name = "busybox"; };

  # Told apart by name, so that a new release of socat does not unpack the kernel again.
  isKernel = deb: builtins.match "(.*-)?linux-(image|modules|binary)-.*" (baseNameOf deb.url) != null;

  file = deb: import <nix/fetchurl.nix> {
    inherit (deb) url sha256;
    # Neither is allowed in the name of a store path.
    name = builtins.replaceStrings [ "%" "~" ] [ "_" "_" ] (baseNameOf deb.url);
  };

  unpack = step: list: derivation {
    inherit system step;
    name = "${name}-${step}";
    builder = "${shell}/bin/busybox";
    args = [ "sh" "-eu" ./unpack.sh ];
    debs = map file list;
    busybox = shell;
    # No cache has this, and without a network asking one takes minutes.
    allowSubstitutes = false;
    preferLocalBuild = true;
  };

  sorted = builtins.partition isKernel (builtins.fromJSON (builtins.readFile (parts + "/parts.json")));
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
