rec {
  genAttrs = names: make: builtins.listToAttrs (map (name: { inherit name; value = make name; }) names);
  makeBinPath = packages: builtins.concatStringsSep ":" (map (package: "${package}/bin") packages);
  optionals = condition: list: if condition then list else [ ];
  hasPrefix = prefix: text: builtins.substring 0 (builtins.stringLength prefix) text == prefix;
  removePrefix =
    prefix: text:
    if hasPrefix prefix text then
      builtins.substring (builtins.stringLength prefix) (builtins.stringLength text) text
    else
      text;
  hasInfix = part: text: builtins.length (builtins.split part text) > 1;
  licenses.asl20 = { };

  # No modules are evaluated here (tests/host/test_guest_module.py does that). What it builds is an image nonetheless.
  nixosSystem =
    {
      system ? "x86_64-linux",
      modules,
      specialArgs ? { },
    }:
    let
      pkgs = import ./pkgs.nix { inherit system; lib = import ./lib.nix; };
      build = rec {
        toplevel = pkgs.runCommand "nixos-system" { } ''mkdir "$out"'';
        virshleImage = pkgs.runCommand "virshle-image" { } ''
          mkdir "$out"
          echo "made of ${toString (builtins.length modules)} modules" >"$out/disk.raw"
          truncate -s 1M "$out/disk.raw"
        '';
      };
    in
    {
      config.system.build = build;
      pkgs = pkgs;
    };
}
