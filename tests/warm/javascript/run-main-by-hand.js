const Module = require('module');
if (!globalThis.again) {
  globalThis.again = true;
  delete require.cache[__filename];
  process.argv[1] = __filename;
  Module.runMain(__filename);
} else {
  console.log('twice', require.main === module, new Error('x').stack);
}
