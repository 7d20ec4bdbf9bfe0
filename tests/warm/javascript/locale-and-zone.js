console.log(new Date(0).toString(), new Intl.DateTimeFormat().resolvedOptions(), (1234.5).toLocaleString());
