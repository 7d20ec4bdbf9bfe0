console.log(require.main === module, module.id, module.filename === __filename, module.loaded);
console.log(module.parent, module.children.length, module.paths);
console.log(__filename, __dirname, require.main.path, Object.keys(module));
