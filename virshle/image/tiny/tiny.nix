# The `tiny` guest image: disk.raw (ext4), kernel, initrd and cmdline, from parts that are passed in.
#
# A part is a store path or a derivation; nixpkgs' packages fit as they are:
#   import ./tiny.nix {
#     system = "x86_64-linux";
#     kernel = "${pkgs.linux}/bzImage";  modules = pkgs.linux.modules or pkgs.linux;
#     busybox = pkgs.pkgsStatic.busybox; dropbear = pkgs.pkgsStatic.dropbear;
#     socat = pkgs.pkgsStatic.socat;     e2fsprogs = pkgs.pkgsStatic.e2fsprogs;
#   }
# Parts linked against libraries need these in the guest too: `closure` names the packages whose whole closure is
# copied to the guest's own /nix/store, `libs` is a tree (lib, lib64) laid over the guest's root.
{ system ? builtins.currentSystem
, kernel                # the kernel image file
, modules               # has lib/modules/VERSION
, busybox               # has bin/busybox, static
, dropbear              # has bin/dropbear, bin/dropbearkey
, socat                 # has bin/socat
, e2fsprogs             # has bin/resize2fs
, libs ? null
, closure ? [ ]
  # The programs that build: the guest's own, unless it is of another architecture.
, tools ? { inherit busybox; mke2fs = "${e2fsprogs}/bin/mke2fs"; debugfs = "${e2fsprogs}/bin/debugfs"; }
, name ? "tiny"
, label ? "tiny"
, uuid ? "7469-6e79"    # only its hash is used, see below
}:
let
  # The root's UUID and hash seed are fixed by what the image is made of: the same image has the same, another has not.
  digest = builtins.hashString "sha256" "${builtins.unsafeDiscardStringContext (toString [ kernel modules busybox ])} ${uuid}";
  part = from: length: builtins.substring from length digest;
  asUuid = from: "${part from 8}-${part (from + 8) 4}-4${part (from + 13) 3}-8${part (from + 17) 3}-${part (from + 20) 12}";
  console = if builtins.match "aarch64.*" system != null then "ttyAMA0" else "ttyS0";
in
derivation ({
  inherit name system kernel modules busybox dropbear socat e2fsprogs label;
  inherit (tools) mke2fs debugfs;
  builder = "${tools.busybox}/bin/busybox";
  args = [ "sh" "-eu" ./build.sh ];
  scripts = ./.;
}
// { })
