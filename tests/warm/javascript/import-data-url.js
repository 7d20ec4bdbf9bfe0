import('data:text/javascript,export default import.meta.url').then((part) => console.log(part.default));
