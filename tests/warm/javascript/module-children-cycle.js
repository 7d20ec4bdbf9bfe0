console.log(require('./a').name, require('./a').other, module.children.map((child) => child.id));
