# Makes the parts of the `tiny` image from Debian packages, and then the image.
#
# parts: a folder with parts.json and busybox/bin/busybox. parts.json is a list of {"url": "..", "sha256": ".."}: the
# kernel (linux-image-*), dropbear-bin, socat, e2fsprogs and all libraries that these need. busybox is static. It is not
# in the list, because it unpacks the other packages. apt makes the list: names and versions differ between releases
# (libssl3, libssl3t64). The list is the pin: the same list makes the same bytes.
{ system ? builtins.currentSystem
, parts
, name ? "tiny"
}:
let
  # A folder, not the file: Nix runs a builder with the name of its store path, and busybox refuses a name that it does
  # not know.
  shell = builtins.path { path = parts + "/busybox"; name = "busybox"; };

  # The name says which package is a kernel. Kernels are apart, so that a new socat does not unpack the kernel again.
  isKernel = deb: builtins.match "(.*-)?linux-(image|modules|binary)-.*" (baseNameOf deb.url) != null;

  file = deb: import <nix/fetchurl.nix> {
    inherit (deb) url sha256;
    # The name of a store path cannot have these two characters.
    name = builtins.replaceStrings [ "%" "~" ] [ "_" "_" ] (baseNameOf deb.url);
  };

  unpack = step: list: derivation {
    inherit system step;
    name = "${name}-${step}";
    builder = "${shell}/bin/busybox";
    args = [ "sh" "-eu" ./unpack.sh ];
    debs = map file list;
    busybox = shell;
    # No cache has this, and without a network the question takes minutes.
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
