export TUNEHOOK_STORAGE=postgresql://me:password@db/tune
job=$(sbatch --parsable --array=0-3 --wrap "python train.py tune")
sbatch --dependency=afterok:$job --wrap "python train.py finish"
