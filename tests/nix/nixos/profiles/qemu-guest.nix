# NixOS has one of this name.
{ }
