"""finetune sweep: which settings of a recipe give the best score, and what finding out costs."""
