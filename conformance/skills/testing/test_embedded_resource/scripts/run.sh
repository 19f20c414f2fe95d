echo 'This is an embedded resource content.' > notes.txt
