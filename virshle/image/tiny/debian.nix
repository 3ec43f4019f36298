# The parts of the `tiny` image from Debian packages, and the image.
#
# busybox: a folder in the store with bin/busybox, static. It is given apart, for it is what unpacks the others.
# debs: JSON, a list of {"path": "/nix/store/..deb"} (in the store already) or {"url": "..", "sha256": ".."}.
# What they are called does not matter: names differ from release to release. Needed among them are the kernel
# (linux-image-*), dropbear-bin, socat, e2fsprogs and the libraries these depend on.
{ system ? builtins.currentSystem
, busybox
, debs
, name ? "tiny"
}:
let
  shell = builtins.storePath busybox;

  fetch = deb:
    if deb ? path then builtins.storePath deb.path
    else import <nix/fetchurl.nix> { inherit (deb) url sha256; };

  run = step: attributes: derivation ({
    inherit system;
    name = "${name}-${step}";
    builder = "${shell}/bin/busybox";
    args = [ "sh" "-eu" ./unpack.sh step ];
  } // attributes);

  files = map fetch (builtins.fromJSON debs);
  # Told apart by name: a new release of dropbear must not unpack the kernel again.
  isKernel = deb: builtins.match ".*-linux-(image|modules|binary)-.*" (baseNameOf (deb.path or deb.url)) != null;
in
null
