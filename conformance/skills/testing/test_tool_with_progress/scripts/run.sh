for part in 0 50 100; do
  echo "::progress:: $part of 100" >&2
  sleep 0.1
done
echo 'Told progress three times.'
