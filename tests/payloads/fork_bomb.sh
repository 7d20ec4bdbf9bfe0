:() { echo x >&2; : | : & }; :
wait
sleep 100
