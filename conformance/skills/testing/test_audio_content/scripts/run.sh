cp assets/silence.wav audio.wav
