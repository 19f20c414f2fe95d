echo 'Multiple content types test:'
cp assets/pixel.png image.png
echo '{"test":"data","value":123}' > data.json
