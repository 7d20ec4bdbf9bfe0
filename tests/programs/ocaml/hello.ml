let () = print_endline "hello from ocaml"
