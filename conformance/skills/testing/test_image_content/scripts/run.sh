cp assets/pixel.png image.png
