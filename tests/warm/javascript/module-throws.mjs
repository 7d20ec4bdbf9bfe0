console.log('before');
const fail = () => {
  throw new RangeError('in a module');
};
fail();
