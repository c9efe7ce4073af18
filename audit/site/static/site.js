// What a browser adds.
