setTimeout(function later() {
  null.property;
}, 1);
