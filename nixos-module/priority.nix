# The priorities of the module's definitions. The smallest number wins, and two different values with the same number
# are an error (nixpkgs: lib/modules.nix, of 26.11, read 2026-11-30). 1500 is an option's default, 1000 lib.mkDefault,
# 100 a plain definition, 60 lib.mkImageMediaOverride, 50 lib.mkForce, 10 lib.mkVMOverride.
lib: {
  # A suggestion. Any other definition wins over it, even one with mkDefault, which nixos-generate-config uses.
  prefer = lib.mkOverride 1200;

  # Wins over mkDefault in NixOS's own modules, but not over a plain definition.
  propose = lib.mkOverride 900;

  # The shape of the image: it cannot boot in another shape. nixpkgs uses the same priority for images that are made
  # from the configuration of another machine. mkForce and `nixos-rebuild build-vm` (mkVMOverride) still win over it.
  shape = lib.mkImageMediaOverride;
}
