let () =
  let block = Bytes.create 65536 in
  let rec copy () =
    match input stdin block 0 65536 with
    | 0 -> ()
    | count ->
        output stdout block 0 count;
        copy ()
  in
  copy ()
