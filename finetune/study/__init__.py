"""finetune study: does transfer pay? Strategies × amounts of rows × seeds, by score, rows and energy."""
