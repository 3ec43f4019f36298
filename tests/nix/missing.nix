# The names in names.toml that this nixpkgs has not. Of its lib alone, what can be known by that.
{ nixpkgs }:
let
  path = /. + nixpkgs;
  whole = builtins.pathExists (path + "/nixos/lib/eval-config.nix");
  lib = import (if builtins.pathExists (path + "/lib/modules.nix") then path + "/lib" else path);
  inherit (import ./nixpkgs/names.nix) names;
  pkgs =
    if whole then
      import path { }
    else
      { stdenv.hostPlatform = lib.systems.elaborate "x86_64-linux"; };
  missing = set: list: builtins.filter (name: !lib.hasAttrByPath (lib.splitString "." name) set) (builtins.attrNames list);
in
{
  # nixosSystem is the flake's.
  lib = missing lib (removeAttrs names.lib [ "nixosSystem" ]);
  packages = builtins.filter (name: whole || lib.hasPrefix "stdenv." name) (missing pkgs names.packages);
}
