"""From images to the views of many, from any number of threads, in bounded memory."""
