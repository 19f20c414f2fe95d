for part in 'Tool execution started' 'Tool processing data' 'Tool execution completed'; do
  echo "$part" >&2
  sleep 0.1
done
echo 'Logged three messages.'
