# What stands in for nixpkgs offers no name that is not in names.toml: `only "packages" set` is the set, or an error that
# names what is too much. Sets are looked into, derivations and functions are not.
let
  names = builtins.fromTOML (builtins.readFile ./names.toml);
  isSet = value: builtins.isAttrs value && (value.type or null) != "derivation";
in
{
  inherit names;
  only =
    kind: offered:
    let
      listed = builtins.attrNames names.${kind};
      known = path: builtins.elem path listed || builtins.any (name: builtins.substring 0 (builtins.stringLength path + 1) name == "${path}.") listed;
      check =
        prefix: set:
        builtins.mapAttrs (
          name: value:
          let
            path = prefix + name;
          in
          if !known path then
            throw "tests/nix: ${kind}: ${path} is offered here, and no file of nixpkgs is named for it in names.toml"
          else if isSet value && !(names.${kind} ? ${path}) then
            check "${path}." value
          else
            value
        ) set;
    in
    check "" offered;
}
