for part in 1 2 3; do
  echo "::progress:: $part of 3" >&2
  sleep 0.1
done
echo 'Done.'
