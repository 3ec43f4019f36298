# The options in names.toml, of the types that they have there. Of NixOS's defaults only those that are read.
{ lib, pkgs, ... }:
let
  inherit (lib) types;
  inherit (import ../nixpkgs/names.nix) names;

  described = description: type: type // { inherit description; };
  # nixos/modules/tasks/filesystems.nix
  text = described "string (with check: non-empty)" (types.addCheck types.str (value: builtins.match "[ \t\n]*" value == null));
  # nixos/lib/systemd-unit-options.nix, systemd-lib.nix: lists are joined, all else must be equal.
  setting = lib.mkOptionType {
    name = "systemd option";
    description = "systemd option";
    merge =
      loc: defs:
      if lib.all (def: lib.isList def.value) defs then
        lib.concatMap (def: def.value) defs
      else
        lib.mergeEqualOption loc defs;
  };
  # pkgs/pkgs-lib/formats.nix
  yaml = described "YAML 1.1 value" (
    types.nullOr (types.oneOf [ types.bool types.int types.float types.str types.path (types.attrsOf yaml) (types.listOf yaml) ])
  );
  # nixos/modules/config/nix.nix
  atom = described "Nix config atom (null, bool, int, float, str, path or package)" (
    types.nullOr (types.oneOf [ types.bool types.int types.float types.str types.path types.package ])
  );
  open = freeformType: types.submodule { inherit freeformType; };

  known = [
    text
    (types.nullOr text)
    (types.nonEmptyListOf text)
    (types.attrsOf setting)
    (open yaml)
    (open (types.attrsOf (types.either atom (types.listOf atom))))
    (open (types.lazyAttrsOf types.unspecified))
    (types.coercedTo (types.listOf types.str) (on: lib.genAttrs on (_: true)) (types.attrsOf types.bool))
    (types.listOf (described "string, with spaces inside double quotes" (types.strMatching ''([^"[:space:]]|"[^"]*")+'')))
    (types.listOf (types.strMatching "[a-zA-Z0-9@%:_.\\-]+[.](service|socket|device|mount|automount|swap|target|path|timer|scope|slice)"))
    (types.strMatching "^$|^[[:alnum:]]([[:alnum:]_-]{0,61}[[:alnum:]])?$")
    (types.attrsOf (types.nullOr (types.oneOf [ types.str types.path types.package ])))
    (types.attrsOf types.path)
    (types.either (types.enum [ "auto" ]) types.ints.positive)
    (types.listOf (types.either types.package types.str))
    (types.listOf types.attrs)
    (types.listOf types.package)
    (types.listOf types.port)
    (types.listOf types.str)
    (types.nullOr types.bool)
    (types.nullOr types.int)
    (types.nullOr types.lines)
    (types.nullOr types.path)
    (types.nullOr types.str)
    (types.unique { message = "only one boot loader"; } (types.either types.str types.package))
    types.bool
    types.ints.positive
    types.lines
    types.package
    types.singleLineStr
    types.str
  ];
  # What the manual says of a type is its description.
  byDescription = lib.listToAttrs (map (type: lib.nameValuePair type.description type) known);

  defaults = {
    "boot.loader.efi.efiSysMountPoint" = "/boot";
    "boot.loader.timeout" = 5;
    "fileSystems.<name>.enable" = true;
    "fileSystems.<name>.options" = [ "defaults" ];
    "networking.hostName" = "nixos";
    "networking.useDHCP" = true;
    "security.sudo.wheelNeedsPassword" = true;
    "services.openssh.package" = pkgs.openssh;
    "services.openssh.settings.PasswordAuthentication" = true;
    "system.build" = { };
    "system.name" = "unnamed";
    "systemd.package" = pkgs.systemd;
    "systemd.services.<name>.restartIfChanged" = true;
    "systemd.services.<name>.script" = "";
    "systemd.sockets.<name>.description" = "";
  };
  # All others, by what the type's description begins with.
  empty = [
    { type = "boolean"; value = false; }
    { type = "null or "; value = null; }
    { type = "list of "; value = [ ]; }
    { type = "attribute set of "; value = { }; }
    { type = "(attribute set of "; value = { }; }
  ];
  applied = {
    "boot.initrd.kernelModules" = set: lib.attrNames (lib.filterAttrs (_: on: on) set);
    fileSystems = lib.filterAttrs (_: one: one.enable);
  };
  option =
    path: type:
    let
      default =
        if defaults ? ${path} then
          { value = defaults.${path}; }
        else
          lib.findFirst (one: lib.hasPrefix one.type type.description) { } empty;
    in
    lib.mkOption (
      { inherit type; }
      // lib.optionalAttrs (default ? value) { default = default.value; }
      // lib.optionalAttrs (applied ? ${path}) { apply = applied.${path}; }
    );
  # Of the paths that begin with `at`, with what comes after it.
  tree =
    at: paths:
    lib.mapAttrs (
      head: below:
      let
        path = lib.concatStringsSep "." (at ++ [ head ]);
        rest = lib.filter (one: one != [ ]) (map lib.tail below);
        options = tree (at ++ [ head ]) rest;
        type =
          byDescription.${lib.head names.options.${path}}
            or (throw "tests/nix/nixos/options.nix: no type is called ${lib.head names.options.${path}}");
      in
      if lib.all (one: lib.head one == "<name>") rest && rest != [ ] then
        option path (types.attrsOf (types.submodule { options = options."<name>"; }))
      else if !(names.options ? ${path}) then
        options
      else if rest != [ ] then
        option path (types.submodule [ { inherit options; } { freeformType = types.lazyAttrsOf types.unspecified; } ])
      else
        option path type
    ) (lib.groupBy lib.head paths);
in
{
  options = tree [ ] (map (lib.splitString ".") (lib.attrNames names.options));

  config.system.build.toplevel = {
    type = "derivation";
    name = "nixos-system";
    outPath = "/nix/store/00000000000000000000000000000000-nixos-system";
  };
}
