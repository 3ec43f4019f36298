# As much of nixpkgs as virshle's flake and templates name, made of this machine's own programs and of nothing fetched:
# tests/host/test_own_flake.py locks a copy of virshle to a copy of this. It shows that the flake's own expressions work,
# and nothing of what nixpkgs really has: that is in names.toml, and no other name is in here.
{
  outputs =
    { self }:
    let
      lib = (import ./names.nix).only "lib" (import ./lib.nix);
    in
    {
      inherit lib;
      legacyPackages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (system: import ./pkgs.nix { inherit lib system; });
    };
}
