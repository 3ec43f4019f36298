# How strongly the module says a thing. Smaller numbers win, and two different values of the same number are an error
# (nixpkgs: lib/modules.nix, of 26.11, read 2026-11-30): 1500 is an option's default, 1000 lib.mkDefault, 100 a plain
# definition, 60 lib.mkImageMediaOverride, 50 lib.mkForce, 10 lib.mkVMOverride.
lib: {
  # A suggestion. Whatever anybody else says goes before it, also by mkDefault, as nixos-generate-config does.
  prefer = lib.mkOverride 1200;

  # Goes before what NixOS's own modules say by mkDefault, and not before a plain definition.
  propose = lib.mkOverride 900;

  # The image's shape: it boots in no other. It is nixpkgs' own measure for images that are made of the configuration of
  # another machine. mkForce and `nixos-rebuild build-vm` (mkVMOverride) still go before it.
  shape = lib.mkImageMediaOverride;
}
