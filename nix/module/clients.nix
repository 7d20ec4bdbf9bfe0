# Clients: users, and holders of tokens, with a share of the service that is theirs.
{ kinds, ... }:
{ config, lib, ... }:
let
  inherit (lib)
    literalExpression
    mkOption
    types
    ;
  cfg = config.services.codeSandbox;

  client.options = {
    users = mkOption {
      type = types.listOf kinds.userName;
      default = [ ];
      example = [ "www-data" ];
      description = "Users of this host who are this client; they become members of the socket's group.";
    };
    tokens = mkOption {
      type = types.attrsOf kinds.tokenHash;
      default = { };
      example = {
        laptop = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
      };
      description = "What is known of the tokens of this client, by names that logs show; see `tcp`. `codesandbox token new NAME` makes them. A hash is no secret: it may be in the Nix store.";
    };
    weight = mkOption {
      type = types.ints.between 1 1000;
      default = 1;
      example = 4;
      description = "Share of the sandboxes, against the weights of the other clients that have jobs waiting.";
    };
    concurrency = mkOption {
      type = types.ints.unsigned;
      default = 0;
      example = 2;
      description = "Sandboxes that run for this client at one time; 0: no bound of its own.";
    };
    queue_length = mkOption {
      type = types.ints.positive;
      default = cfg.queue.length_per_client;
      defaultText = literalExpression "config.services.codeSandbox.queue.length_per_client";
      example = 20;
      description = "Jobs of this client that wait; one more is refused.";
    };
    profiles = mkOption {
      type = types.nonEmptyListOf kinds.profileName;
      default = lib.attrNames cfg.profiles;
      defaultText = literalExpression "lib.attrNames config.services.codeSandbox.profiles";
      example = [ "judge" ];
      description = "Profiles that this client may ask for.";
    };
    sessions = mkOption {
      type = types.nullOr types.ints.unsigned;
      default = null;
      example = 20;
      description = "Most sessions of this client at one time; null: `sessions.sessions_per_client`.";
    };
  };
in
{
  options.services.codeSandbox.clients = mkOption {
    type = types.attrsOf (types.submodule client);
    default = { };
    example = {
      judge = {
        users = [ "judge" ];
        weight = 4;
        profiles = [ "judge" ];
      };
    };
    description = ''
      Clients by a name that logs and metrics show. A member of the socket's group who is named by none is a client
      of its own, with weight 1 and every profile.
    '';
  };

  config.users.groups = lib.mkIf (cfg.enable && cfg.clients != { }) {
    ${cfg.socket.group}.members = lib.concatMap (client: client.users) (lib.attrValues cfg.clients);
  };
}
