class Failure extends Error {}
function fail(): never {
  throw new Failure('no such thing');
}
fail();
