import { Worker, isMainThread } from 'worker_threads';
import { fileURLToPath } from 'url';
if (isMainThread) new Worker(fileURLToPath(import.meta.url));
else console.log(import.meta.url, import.meta.main, process.argv, new Error('x').stack);
